-- name: claim_lines
-- Of the enabled webhooks whose line is free and that have a delivery that is due, the $2 that have waited longest; of those that
-- fail, at most $3. Nobody else gets them before $4. Of an owner, at most $5 lines are held by all notifiers, and as many of its failing
-- webhooks beside them; those who claim at the same moment do not see each other's. The walk visits each webhook with pending
-- deliveries once, however many deliveries these are, and no other one. Each is looked up by itself, so that no plan reads all
-- webhooks.
WITH RECURSIVE waiting AS (
    (SELECT d.webhook_id FROM authsvc.webhook_deliveries d WHERE d.state = 'pending' ORDER BY d.webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.webhook_id FROM authsvc.webhook_deliveries d
             WHERE d.state = 'pending' AND d.webhook_id > w.webhook_id ORDER BY d.webhook_id LIMIT 1)
      FROM waiting w WHERE w.webhook_id IS NOT NULL),
due AS (
    SELECT w.webhook_id, w.owner_id, w.line_time, w.is_failing,
           row_number() OVER (PARTITION BY w.owner_id, w.is_failing ORDER BY w.line_time) AS owner_rank
      FROM waiting
      CROSS JOIN LATERAL (
          SELECT w.webhook_id, w.owner_id, w.line_time, w.failing_since IS NOT NULL AS is_failing FROM authsvc.webhooks w
           WHERE w.webhook_id = waiting.webhook_id AND w.enabled AND w.line_time <= $1
             AND (w.held_until IS NULL OR w.held_until <= $1) LIMIT 1) AS w
      CROSS JOIN LATERAL (
          SELECT FROM authsvc.webhook_deliveries d
           WHERE d.webhook_id = w.webhook_id AND d.state = 'pending' AND d.next_time <= $1 LIMIT 1) AS d),
allowed AS (
    SELECT due.webhook_id, due.line_time, due.is_failing,
           row_number() OVER (PARTITION BY due.is_failing ORDER BY due.line_time) AS rank
      FROM due
     WHERE due.owner_rank <= $5 - (SELECT count(*) FROM authsvc.webhooks o
                                    WHERE o.owner_id = due.owner_id AND o.held_until > $1
                                      AND (o.failing_since IS NOT NULL) = due.is_failing)),
chosen AS (
    SELECT w.webhook_id FROM allowed a JOIN authsvc.webhooks w ON w.webhook_id = a.webhook_id
     WHERE w.enabled AND w.line_time <= $1 AND (w.held_until IS NULL OR w.held_until <= $1) AND (NOT a.is_failing OR a.rank <= $3)
     ORDER BY a.line_time, a.webhook_id LIMIT $2 FOR NO KEY UPDATE OF w SKIP LOCKED)
UPDATE authsvc.webhooks w SET held_until = $4 FROM chosen c WHERE w.webhook_id = c.webhook_id
RETURNING w.webhook_id, w.failing_since IS NOT NULL AS is_failing, w.line_time AS idle_since;

-- name: next_delivery
-- The oldest delivery of a webhook that is due, if the line is still held by whom has claimed it until $2.
SELECT d.delivery_id, d.attempt_count, w.webhook_id, w.owner_id AS webhook_owner_id, w.url, w.description, w.event_types,
       w.technical_contacts, w.enabled, w.disable_reason, w.create_time, w.creator_id, w.update_time, w.version, w.secrets,
       w.failing_since, w.warn_time, n.notification_id, n.type, n.owner_id, n.event_time, n.position, n.target_id, n.actor_id,
       n.actor_owner_id, n.actor_type, n.details, n.subject, n.contacts, t.trace_parent
  FROM authsvc.webhooks w
  CROSS JOIN LATERAL (
      SELECT d.delivery_id, d.attempt_count, d.notification_id FROM authsvc.webhook_deliveries d
       WHERE d.webhook_id = w.webhook_id AND d.state = 'pending' AND d.next_time <= $3 ORDER BY d.delivery_id LIMIT 1) AS d
  JOIN authsvc.notifications n ON n.notification_id = d.notification_id
  LEFT JOIN authsvc.trace_parents t ON t.notification_id = d.notification_id
 WHERE w.webhook_id = $1 AND w.held_until = $2 AND w.enabled;

-- name: give_line_back
-- Nobody looks at it before $3.
UPDATE authsvc.webhooks SET held_until = NULL, line_time = $3 WHERE webhook_id = $1 AND held_until = $2;

-- name: note_success
-- The webhook does not fail. Its line, if it is still held until $5, is held until $6; returns whether it is. The webhook is locked
-- before its delivery, like everywhere.
WITH webhook AS (
    UPDATE authsvc.webhooks
       SET failing_since = NULL, warn_time = NULL, held_until = CASE WHEN held_until = $5 THEN $6 ELSE held_until END
     WHERE webhook_id = $4 AND (held_until = $5 OR failing_since IS NOT NULL)
    RETURNING held_until = $6 AS is_held),
held AS (SELECT coalesce(bool_or(is_held), false) AS is_held FROM webhook),
noted AS (
    UPDATE authsvc.webhook_deliveries d
       SET state = 'delivered', attempt_count = d.attempt_count + 1, attempt_time = $2, response_status = $3, error = ''
      FROM held WHERE d.delivery_id = $1 AND d.state = 'pending')
SELECT is_held FROM held;

-- name: note_failure
-- If nobody else has noted that attempt. Without a next one, it was the last.
UPDATE authsvc.webhook_deliveries
   SET state = CASE WHEN $5::timestamptz IS NULL THEN 'failed' ELSE 'pending' END, attempt_count = attempt_count + 1,
       attempt_time = $2, response_status = $3, error = $4, next_time = coalesce($5, next_time)
 WHERE delivery_id = $1 AND state = 'pending' AND attempt_count = $6;

-- name: mark_failing
UPDATE authsvc.webhooks SET failing_since = $2, warn_time = $3 WHERE webhook_id = $1;

-- name: disable_webhook
UPDATE authsvc.webhooks
   SET enabled = false, disable_reason = $2, failing_since = $3, update_time = $4, version = version + 1, held_until = NULL
 WHERE webhook_id = $1;

-- name: fail_deliveries_of_disabled
-- Up to $2 pending deliveries of webhooks that the service has disabled; of those disabled by their owner, the ones from before $1.
WITH RECURSIVE waiting AS (
    (SELECT d.webhook_id FROM authsvc.webhook_deliveries d WHERE d.state = 'pending' ORDER BY d.webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.webhook_id FROM authsvc.webhook_deliveries d
             WHERE d.state = 'pending' AND d.webhook_id > w.webhook_id ORDER BY d.webhook_id LIMIT 1)
      FROM waiting w WHERE w.webhook_id IS NOT NULL),
chosen AS (
    SELECT d.delivery_id, w.disable_reason
      FROM waiting
      CROSS JOIN LATERAL (
          SELECT w.webhook_id, w.disable_reason FROM authsvc.webhooks w
           WHERE w.webhook_id = waiting.webhook_id AND NOT w.enabled LIMIT 1) AS w
      JOIN authsvc.webhook_deliveries d ON d.webhook_id = w.webhook_id
     WHERE d.state = 'pending' AND (w.disable_reason <> '' OR d.create_time < $1)
     LIMIT $2 FOR NO KEY UPDATE OF d SKIP LOCKED)
UPDATE authsvc.webhook_deliveries d
   SET state = 'failed',
       error = CASE c.disable_reason WHEN 'gone' THEN 'the webhook answered 410 and was disabled'
                    WHEN 'failing' THEN 'the webhook was disabled because it failed for days'
                    ELSE 'the webhook is disabled' END
  FROM chosen c WHERE d.delivery_id = c.delivery_id AND d.state = 'pending'
RETURNING true;
