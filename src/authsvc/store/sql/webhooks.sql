-- name: lock_webhook_count
-- Taken before the webhooks of an owner are counted by a transaction that adds one.
SELECT pg_advisory_xact_lock(hashtextextended('webhooks of ' || $1, 0));

-- name: count_webhooks
SELECT count(*) FROM authsvc.webhooks WHERE owner_id = $1;

-- name: insert_webhook
INSERT INTO authsvc.webhooks (
    webhook_id, owner_id, url, description, event_types, technical_contacts, enabled, create_time, creator_id, update_time, version,
    secrets, line_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $8);

-- name: find_webhook
SELECT webhook_id, owner_id, url, description, event_types, technical_contacts, enabled, disable_reason, create_time, creator_id,
       update_time, version, secrets, failing_since, warn_time
  FROM authsvc.webhooks WHERE webhook_id = $1 AND ($2::text IS NULL OR owner_id = $2);

-- name: lock_webhook
-- Deliveries may be written down for it meanwhile.
SELECT webhook_id, owner_id, url, description, event_types, technical_contacts, enabled, disable_reason, create_time, creator_id,
       update_time, version, secrets, failing_since, warn_time
  FROM authsvc.webhooks WHERE webhook_id = $1 AND ($2::text IS NULL OR owner_id = $2)
   FOR NO KEY UPDATE;

-- name: list_webhooks
SELECT webhook_id, owner_id, url, description, event_types, technical_contacts, enabled, disable_reason, create_time, creator_id,
       update_time, version, secrets, failing_since, warn_time
  FROM authsvc.webhooks WHERE owner_id = $1 AND webhook_id > $2 ORDER BY webhook_id LIMIT $3;

-- name: update_webhook
-- Of a locked webhook. Its deliveries are looked at again at $13, if not before.
UPDATE authsvc.webhooks
   SET url = $2, description = $3, event_types = $4, technical_contacts = $5, enabled = $6, disable_reason = $7, update_time = $8,
       version = $9, secrets = $10, failing_since = $11, warn_time = $12,
       line_time = least(line_time, $13)
 WHERE webhook_id = $1;

-- name: hold_purge
-- The purge deletes deliveries in another order, so each would wait for the other. It goes on when this transaction has ended.
SELECT FROM authsvc.jobs WHERE job = 'notification_purge' FOR UPDATE;

-- name: delete_deliveries
-- Some of those of a webhook.
DELETE FROM authsvc.webhook_deliveries
 WHERE delivery_id IN (SELECT delivery_id FROM authsvc.webhook_deliveries WHERE webhook_id = $1 LIMIT $2)
RETURNING true;

-- name: delete_webhook
DELETE FROM authsvc.webhooks WHERE webhook_id = $1;

-- name: list_deliveries
-- A page of each state before $3, and the newest of those; ~ follows every id. The order and the conditions of a state are those
-- of one index, whatever the statistics say: fast for rare and for frequent states.
SELECT d.delivery_id, d.webhook_id, d.notification_id, n.owner_id, n.type, d.state, d.attempt_count, d.create_time, d.next_time,
       d.attempt_time, d.response_status, d.error
  FROM (SELECT s.delivery_id, s.webhook_id, s.notification_id, s.state, s.attempt_count, s.create_time, s.next_time,
               s.attempt_time, s.response_status, s.error
          FROM unnest($2::text[]) AS wanted (state) CROSS JOIN LATERAL (
              SELECT delivery_id, webhook_id, notification_id, state, attempt_count, create_time, next_time, attempt_time,
                     response_status, error
                FROM authsvc.webhook_deliveries
               WHERE webhook_id = $1 AND state >= wanted.state AND (state, delivery_id) < (wanted.state, coalesce($3, '~'))
               ORDER BY state DESC, delivery_id DESC LIMIT $4) AS s
         ORDER BY s.delivery_id DESC LIMIT $4) AS d
 CROSS JOIN LATERAL (
     SELECT owner_id, type FROM authsvc.notifications WHERE notification_id = d.notification_id LIMIT 1) AS n
 ORDER BY d.delivery_id DESC;

-- name: hasten
-- Has the deliveries of the webhook of a delivery looked at again at $3, if calls of it are paused because they fail. Locks the
-- webhook, which is locked before its deliveries everywhere.
UPDATE authsvc.webhooks w SET line_time = least(w.line_time, $3)
  FROM authsvc.webhook_deliveries d
 WHERE d.delivery_id = $1 AND w.webhook_id = d.webhook_id AND ($2::text IS NULL OR w.owner_id = $2) AND w.failing_since IS NOT NULL;

-- name: lock_delivery
-- With the owner of its webhook, and whether that is called.
SELECT d.delivery_id, d.webhook_id, d.notification_id, n.owner_id, n.type, d.state, d.attempt_count, d.create_time, d.next_time,
       d.attempt_time, d.response_status, d.error, w.enabled
  FROM authsvc.webhook_deliveries d
  JOIN authsvc.notifications n USING (notification_id)
  JOIN authsvc.webhooks w USING (webhook_id)
 WHERE d.delivery_id = $1 AND ($2::text IS NULL OR w.owner_id = $2)
   FOR NO KEY UPDATE OF d;

-- name: update_delivery
UPDATE authsvc.webhook_deliveries SET state = $2, attempt_count = $3, next_time = $4 WHERE delivery_id = $1;

-- name: count_webhooks_by_key
-- How many webhooks sign with a secret that is derived from each key of the operator.
SELECT s.value ->> 'key_id' AS key_id, count(DISTINCT w.webhook_id) AS webhooks
  FROM authsvc.webhooks w CROSS JOIN LATERAL jsonb_array_elements(w.secrets) AS s
 WHERE coalesce((s.value ->> 'expire_time')::timestamptz, 'infinity') > $1
 GROUP BY 1 ORDER BY 1;
