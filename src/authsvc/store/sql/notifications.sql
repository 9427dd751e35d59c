-- name: list_unspread
-- The oldest notifications whose recipients are not written down, except $2.
SELECT notification_id, type, owner_id, event_time, position, target_id, actor_id, actor_owner_id, actor_type, details, subject,
       contacts
  FROM authsvc.notifications WHERE spread_time IS NULL AND notification_id <> ALL($2::text[]) ORDER BY number LIMIT $1;

-- name: has_unspread
SELECT EXISTS (
    SELECT FROM authsvc.notifications WHERE spread_time IS NULL AND notification_id <> ALL($1::text[]));

-- name: mark_spread
UPDATE authsvc.notifications SET spread_time = $2 WHERE notification_id = ANY($1);

-- name: drop_notifications
-- Those that nobody is to be told of.
DELETE FROM authsvc.notifications WHERE notification_id = ANY($1);

-- name: insert_notifications
INSERT INTO authsvc.notifications (
    notification_id, type, owner_id, event_time, target_id, actor_id, actor_owner_id, actor_type, details, subject, contacts)
SELECT n.notification_id, n.type, n.owner_id, n.event_time, n.target_id, n.actor_id, n.actor_owner_id, n.actor_type, n.details,
       n.subject, n.contacts
  FROM jsonb_to_recordset($1::jsonb) AS n (
           notification_id text, type text, owner_id text, event_time timestamptz, target_id text, actor_id text,
           actor_owner_id text, actor_type text, details jsonb, subject jsonb, contacts jsonb);

-- name: add_contacts
UPDATE authsvc.notifications SET contacts = contacts || $2::jsonb WHERE notification_id = $1;

-- name: list_contacts_of_revoked_keys
-- Of all keys of an owner that were revoked at one time by one call, each address once.
SELECT DISTINCT ON (lower(c.value ->> 'email')) c.value ->> 'name' AS name, c.value ->> 'email' AS email
  FROM authsvc.keys k CROSS JOIN LATERAL jsonb_array_elements(k.technical_contacts) AS c
 WHERE k.owner_id = $1 AND k.revoke_time = $2 AND k.update_time = $2
 ORDER BY lower(c.value ->> 'email');

-- name: insert_mails
INSERT INTO authsvc.mails (notification_id, owner_id, address, contact_name, create_time, next_time)
SELECT m.notification_id, m.owner_id, m.address, m.contact_name, $2, $2
  FROM jsonb_to_recordset($1::jsonb) AS m (notification_id text, owner_id text, address text, contact_name text)
    ON CONFLICT (notification_id, address) DO NOTHING;

-- name: list_listening_webhooks
-- The enabled webhooks of these owners, and those of the platform, which are told of all owners.
SELECT webhook_id, owner_id, event_types FROM authsvc.webhooks
 WHERE enabled AND owner_id = ANY($1::text[] || ARRAY['authsvc']) ORDER BY webhook_id;

-- name: insert_webhook_deliveries
-- Waits for a deletion of a webhook that is under way, and leaves out what was deleted.
INSERT INTO authsvc.webhook_deliveries (delivery_id, webhook_id, notification_id, create_time, next_time)
SELECT d.delivery_id, d.webhook_id, d.notification_id, $2, $2
  FROM jsonb_to_recordset($1::jsonb) AS d (delivery_id text, webhook_id text, notification_id text)
  JOIN authsvc.webhooks w ON w.webhook_id = d.webhook_id
   FOR KEY SHARE OF w
    ON CONFLICT (notification_id, webhook_id) DO NOTHING;

-- name: list_devices
-- Of the sessions of an owner that were created before ($3, $2), each user agent once, and at most $5. At most $4 sessions are
-- looked at.
SELECT DISTINCT s.user_agent, s.client_hints
  FROM (SELECT user_agent, client_hints FROM authsvc.sessions
         WHERE owner_id = $1 AND (create_time, session_id) < ($3, $2::text) LIMIT $4) AS s
 LIMIT $5;

-- name: delete_old_notifications
-- A batch of those whose recipients were written down before $1. Those of which something still waits are kept until $2. Whether
-- something waits is looked up for each by itself: the state is no condition of these look-ups, so that no plan reads all that is
-- pending for each.
DELETE FROM authsvc.notifications n
 USING (SELECT o.notification_id, w.waits
          FROM authsvc.notifications o
          CROSS JOIN LATERAL (
              SELECT (SELECT bool_or(m.state = 'pending') FROM authsvc.mails m
                       WHERE m.notification_id = o.notification_id) IS TRUE
                  OR (SELECT bool_or(d.state = 'pending') FROM authsvc.webhook_deliveries d
                       WHERE d.notification_id = o.notification_id) IS TRUE AS waits) AS w
         WHERE o.spread_time < $1 AND (o.spread_time < $2 OR NOT w.waits)
         ORDER BY o.spread_time LIMIT $3) AS old
 WHERE n.notification_id = old.notification_id
RETURNING old.waits;

-- name: insert_trace_parents
-- Of those notifications of $1 that there are.
INSERT INTO authsvc.trace_parents (notification_id, trace_parent)
SELECT n.notification_id, t.trace_parent
  FROM unnest($1::text[], $2::text[]) AS t (notification_id, trace_parent)
  JOIN authsvc.notifications n ON n.notification_id = t.notification_id
   FOR KEY SHARE OF n
    ON CONFLICT DO NOTHING;
