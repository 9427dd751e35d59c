-- name: when_begun
-- When the first walk began. The row is in `jobs` and is no job.
SELECT next_time FROM authsvc.jobs WHERE job = 'key_warnings_begin';

-- name: begin
INSERT INTO authsvc.jobs (job, next_time) VALUES ('key_warnings_begin', $1) ON CONFLICT (job) DO NOTHING;

-- name: has_enabled_webhook
SELECT EXISTS (SELECT FROM authsvc.webhooks WHERE enabled);

-- name: has_backlog
-- Whether at least $2 notifications wait to be spread, mails to be sent, or deliveries to webhooks of the platform to be made.
-- What waits for its next attempt does not count, and neither does a webhook that fails.
SELECT (SELECT count(*) FROM (SELECT FROM authsvc.notifications WHERE spread_time IS NULL LIMIT $2) AS n) >= $2
    OR (SELECT count(*) FROM (
            SELECT FROM authsvc.mails WHERE state = 'pending' AND next_time <= $1 LIMIT $2) AS m) >= $2
    OR (SELECT count(*) FROM (
            SELECT FROM authsvc.webhooks w CROSS JOIN LATERAL (
                       SELECT FROM authsvc.webhook_deliveries d
                        WHERE d.webhook_id = w.webhook_id AND d.state = 'pending' AND d.next_time <= $1 LIMIT $2) AS d
             WHERE w.owner_id = 'authsvc' AND w.enabled AND w.failing_since IS NULL LIMIT $2) AS d) >= $2;

-- name: list_due_keys
-- Of the next $10 keys after $1, at most $11 for which a warning is due at $2 and was not given. model/key_warning.py has the
-- rules. $3 is since when expiries are told, $4 and $5 are of the default policy, $8 are the thresholds in days, $9 is when a
-- key counts as unused.
--
-- Nothing is due that nobody would be told of: mail about the kinds $6 goes to contacts, or to the operator if $7. Only
-- key.expired is due all the same, since later it would be no news.
--
-- Each row is looked up by itself (LATERAL with LIMIT), so that the plan uses the indexes for a batch of any size. Lengths of
-- time are compared as intervals and not added to times, which would depend on the time zone of the session.
WITH batch AS MATERIALIZED (
    SELECT k.key_id, k.owner_id, k.create_time, k.expire_time, k.technical_contacts <> '[]' AS has_contacts,
           k.revoke_time IS NOT NULL OR k.rotated_to_key_id <> '' AS is_ending,
           coalesce(k.expire_time <= $2, false) AS is_expired
      FROM authsvc.keys k WHERE k.key_id > $1 ORDER BY k.key_id LIMIT $10),
watched AS (
    SELECT b.key_id, b.owner_id, b.create_time, b.expire_time, b.has_contacts, b.is_expired, u.last_use_time,
           coalesce(u.last_use_time, b.create_time) AS used_time,
           u.answer IS NULL OR u.last_use_time IS NOT NULL AS is_delivered,
           coalesce(p.rotation_period, $4) AS rotation_period,
           coalesce(p.keys_enabled, b.owner_id = 'authsvc' OR $5) AS is_enabled
      FROM batch b
     CROSS JOIN LATERAL (
           SELECT u.last_use_time, u.answer FROM authsvc.key_uses u WHERE u.key_id = b.key_id LIMIT 1) AS u
      LEFT JOIN LATERAL (
           SELECT p.rotation_period, p.keys_enabled FROM authsvc.owner_policies p
            WHERE p.owner_id = b.owner_id AND p.owner_id <> 'authsvc' LIMIT 1) AS p ON true
     WHERE NOT b.is_ending),
due AS (
    SELECT w.key_id, w.create_time, w.expire_time, w.last_use_time, w.is_delivered, w.is_enabled, w.rotation_period, d.kinds
      FROM watched w CROSS JOIN LATERAL (
           SELECT array_agg(c.kind) AS kinds
             FROM (VALUES
                   ('key.expiring',
                    (SELECT min(days) FROM unnest($8::integer[]) AS days
                      WHERE w.expire_time - $2 <= days * interval '1 day'
                        AND w.expire_time - w.create_time >= 2 * days * interval '1 day'),
                    CASE WHEN NOT w.is_expired AND w.is_delivered THEN w.expire_time END),
                   ('key.expired', 0,
                    CASE WHEN w.is_expired AND w.is_delivered AND w.expire_time > $3 THEN w.expire_time END),
                   ('key.unused', 0,
                    CASE WHEN NOT w.is_expired AND w.is_enabled AND $2 - w.used_time >= $9 THEN w.used_time END),
                   ('key.rotation_due', 0,
                    CASE WHEN NOT w.is_expired AND w.is_enabled AND w.is_delivered AND w.rotation_period > interval '0'
                              AND $2 - w.create_time >= w.rotation_period
                         THEN w.create_time + make_interval(secs => extract(epoch FROM w.rotation_period)::double precision) END)
                  ) AS c (kind, threshold_days, about_time)
            WHERE c.about_time IS NOT NULL AND c.threshold_days IS NOT NULL
              AND NOT EXISTS (
                  SELECT FROM authsvc.key_warnings g
                   WHERE g.key_id = w.key_id AND g.kind = c.kind AND g.threshold_days <= c.threshold_days
                     AND g.about_time >= c.about_time)
              AND (c.kind = 'key.expired' OR c.kind = ANY($6::text[]) AND (w.has_contacts OR $7) OR EXISTS (
                  SELECT FROM authsvc.webhooks h
                   WHERE h.enabled AND h.owner_id = ANY(ARRAY[w.owner_id, 'authsvc'])
                     AND (h.event_types = '{}' OR c.kind = ANY(h.event_types))))) AS d
     WHERE d.kinds IS NOT NULL
     ORDER BY w.key_id LIMIT $11)
SELECT b.position, b.looked_at, d.key_id, d.create_time, d.expire_time, d.last_use_time, d.is_delivered, d.is_enabled,
       d.rotation_period, d.kinds, g.kinds AS given_kinds, g.thresholds AS given_thresholds, g.times AS given_times
  FROM (SELECT max(key_id) AS position, count(*) AS looked_at FROM batch) AS b
  LEFT JOIN due d ON true
  LEFT JOIN LATERAL (
       SELECT array_agg(w.kind) AS kinds, array_agg(w.threshold_days) AS thresholds, array_agg(w.about_time) AS times
         FROM authsvc.key_warnings w WHERE w.key_id = d.key_id) AS g ON true
 ORDER BY d.key_id;

-- name: give_warnings
-- Notes the warnings $2 about the keys $1, and tells of them: both, or neither. A key that a change has locked is left to the
-- next walk, so that no change and no walk waits for the other. A warning that was given meanwhile is not given again.
WITH asked AS MATERIALIZED (
    SELECT a.notification_id, a.key_id, a.kind, a.threshold_days, a.about_time, a.details
      FROM jsonb_to_recordset($2::jsonb) AS a (
               notification_id text, key_id text, kind text, threshold_days integer, about_time timestamptz, details jsonb)),
locked AS MATERIALIZED (
    SELECT k.key_id, k.owner_id, k.display_name, k.key_prefix, k.create_time, k.expire_time, k.revoke_time, k.rotated_to_key_id,
           k.technical_contacts
      FROM authsvc.keys k
     WHERE k.key_id = ANY((SELECT $1::text[])::text[]) AND k.revoke_time IS NULL AND k.rotated_to_key_id = ''
     ORDER BY k.key_id
       FOR KEY SHARE SKIP LOCKED),
given AS (
    INSERT INTO authsvc.key_warnings AS w (key_id, kind, threshold_days, about_time, warn_time)
    SELECT a.key_id, a.kind, a.threshold_days, a.about_time, $3
      FROM asked a JOIN locked k ON k.key_id = a.key_id
     ORDER BY a.key_id
        ON CONFLICT (key_id, kind, threshold_days) DO UPDATE SET about_time = excluded.about_time, warn_time = excluded.warn_time
     WHERE w.about_time < excluded.about_time
    RETURNING w.key_id, w.kind, w.threshold_days)
INSERT INTO authsvc.notifications (
    notification_id, type, owner_id, event_time, target_id, actor_id, actor_owner_id, actor_type, details, subject, contacts)
SELECT a.notification_id, a.kind, k.owner_id, $3, k.key_id, '', '', '', a.details,
       authsvc.key_subject(k.key_id, k.display_name, k.key_prefix, k.create_time, k.expire_time, k.revoke_time, u.last_use_time,
                           k.rotated_to_key_id),
       k.technical_contacts
  FROM given g
  JOIN asked a ON a.key_id = g.key_id AND a.kind = g.kind AND a.threshold_days = g.threshold_days
  JOIN locked k ON k.key_id = g.key_id
  LEFT JOIN LATERAL (SELECT u.last_use_time FROM authsvc.key_uses u WHERE u.key_id = k.key_id LIMIT 1) AS u ON true
 ORDER BY a.key_id
RETURNING type;
