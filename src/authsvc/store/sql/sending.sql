-- name: list_sending
-- Mails and deliveries in the states $1, of the owner $2 and the notification $3 unless these are empty, the newest first.
SELECT n.notification_id, n.type, n.owner_id, s.recipient, s.state, s.attempt_count, s.attempt_time, s.next_time, s.status,
       s.error
  FROM (
    (SELECT m.notification_id, m.address AS recipient, m.state, m.attempt_count, m.attempt_time,
            CASE WHEN m.state = 'pending' THEN m.next_time END AS next_time, m.reply_code AS status, m.error, m.create_time
       FROM authsvc.mails m
      WHERE m.state = ANY($1) AND ($2 = '' OR m.owner_id = $2) AND ($3 = '' OR m.notification_id = $3)
      ORDER BY m.mail_number DESC LIMIT $4)
    UNION ALL
    (SELECT d.notification_id, d.webhook_id, d.state, d.attempt_count, d.attempt_time,
            CASE WHEN d.state = 'pending' THEN d.next_time END, d.response_status, d.error, d.create_time
       FROM authsvc.webhook_deliveries d
      WHERE d.state = ANY($1) AND ($3 = '' OR d.notification_id = $3)
        AND ($2 = '' OR d.notification_id IN (SELECT o.notification_id FROM authsvc.notifications o WHERE o.owner_id = $2))
      ORDER BY d.delivery_id DESC LIMIT $4)) AS s
  JOIN authsvc.notifications n ON n.notification_id = s.notification_id
 ORDER BY s.create_time DESC, n.number DESC, s.recipient
 LIMIT $4;

-- name: retry
-- At most $3 mails and $3 deliveries that have failed before $2. A mail becomes part of a new message, because the others of the
-- previous one may have arrived.
WITH failed_mails AS (
    SELECT mail_number FROM authsvc.mails
     WHERE state = 'failed' AND ($1 = '' OR notification_id = $1) AND (attempt_time < $2 OR attempt_time IS NULL)
     LIMIT $3 FOR UPDATE SKIP LOCKED),
mailed AS (
    UPDATE authsvc.mails m SET state = 'pending', attempt_count = 0, next_time = $2, message_id = '', create_time = $2,
           first_attempt_time = NULL
      FROM failed_mails f WHERE m.mail_number = f.mail_number
    RETURNING true),
failed_deliveries AS (
    SELECT d.delivery_id FROM authsvc.webhook_deliveries d JOIN authsvc.webhooks w ON w.webhook_id = d.webhook_id
     WHERE d.state = 'failed' AND ($1 = '' OR d.notification_id = $1) AND (d.attempt_time < $2 OR d.attempt_time IS NULL)
       AND w.enabled
     LIMIT $3 FOR UPDATE OF d SKIP LOCKED),
delivered AS (
    UPDATE authsvc.webhook_deliveries d SET state = 'pending', attempt_count = 0, next_time = $2
      FROM failed_deliveries f WHERE d.delivery_id = f.delivery_id
    RETURNING true)
SELECT (SELECT count(*) FROM mailed) + (SELECT count(*) FROM delivered);

-- name: count_pending
-- At most 10,000 of each kind are counted, and since when the oldest of those that are due at $1 has been. Webhooks that fail or
-- are disabled are their owners' concern, so nothing is due to them.
SELECT 'notification' AS kind, (SELECT count(*) FROM (SELECT FROM authsvc.notifications WHERE spread_time IS NULL LIMIT 10000) AS n),
       (SELECT event_time FROM authsvc.notifications WHERE spread_time IS NULL ORDER BY number LIMIT 1) AS due_since
UNION ALL
SELECT 'mail', (SELECT count(*) FROM (SELECT FROM authsvc.mails WHERE state = 'pending' LIMIT 10000) AS m),
       (SELECT next_time FROM authsvc.mails WHERE state = 'pending' AND next_time <= $1 ORDER BY next_time LIMIT 1)
UNION ALL
SELECT 'webhook', (SELECT count(*) FROM (SELECT FROM authsvc.webhook_deliveries WHERE state = 'pending' LIMIT 10000) AS d),
       (SELECT min(d.next_time)
          FROM authsvc.webhooks w CROSS JOIN LATERAL (
              SELECT d.next_time FROM authsvc.webhook_deliveries d
               WHERE d.webhook_id = w.webhook_id AND d.state = 'pending' AND d.next_time <= $1 ORDER BY d.delivery_id LIMIT 1) AS d
         WHERE w.enabled AND w.failing_since IS NULL);
