-- name: has_due_mails
SELECT EXISTS (SELECT FROM authsvc.mails WHERE state = 'pending' AND next_time <= $1);

-- name: list_due_mails
SELECT mail_number, notification_id, owner_id, address, inbox, message_id
  FROM authsvc.mails WHERE state = 'pending' AND next_time <= $1 ORDER BY next_time, mail_number LIMIT $2;

-- name: list_due_mails_to
-- Those to one address that are not yet part of a message.
SELECT mail_number, notification_id, owner_id, address, inbox, message_id FROM authsvc.mails
 WHERE address = $1 AND message_id = '' AND state = 'pending' AND next_time <= $2
 ORDER BY mail_number LIMIT $3;

-- name: list_messages_to
-- When each of the messages to an inbox was attempted last, after $2, the oldest first.
SELECT message_id, max(attempt_time) AS attempt_time FROM authsvc.mails
 WHERE inbox = $1 AND attempt_time > $2 AND message_id <> '' GROUP BY message_id ORDER BY attempt_time;

-- name: list_messages_about
-- The same of the messages about an owner.
SELECT message_id, max(attempt_time) AS attempt_time FROM authsvc.mails
 WHERE owner_id = $1 AND attempt_time > $2 AND message_id <> '' GROUP BY message_id ORDER BY attempt_time;

-- name: list_mails_of_message
SELECT mail_number, notification_id, owner_id, address, inbox, message_id
  FROM authsvc.mails WHERE message_id = $1 AND state = 'pending' AND next_time <= $2;

-- name: claim_mails
UPDATE authsvc.mails
   SET message_id = $2, attempt_count = attempt_count + 1, attempt_time = $3, next_time = $4,
       first_attempt_time = coalesce(first_attempt_time, $3)
 WHERE mail_number = ANY($1) AND state = 'pending';

-- name: defer_mails
UPDATE authsvc.mails SET next_time = $2 WHERE mail_number = ANY($1) AND state = 'pending';

-- name: defer_new_mails_about
-- The new mails about an owner that are due at $2 wait: those to the first $4 addresses until $3, and those to each $4 further ones an
-- hour longer. So of very many, few are looked at again whenever there is room for one. At most $5 are changed.
WITH waiting AS (
    SELECT mail_number, next_time, min(mail_number) OVER (PARTITION BY address) AS first FROM authsvc.mails
     WHERE owner_id = $1 AND state = 'pending' AND message_id = ''),
ranked AS (SELECT mail_number, next_time, dense_rank() OVER (ORDER BY first) - 1 AS rank FROM waiting),
due AS (SELECT mail_number, rank FROM ranked WHERE next_time <= $2 ORDER BY rank LIMIT $5)
UPDATE authsvc.mails m SET next_time = $3::timestamptz + make_interval(hours => (d.rank / $4::bigint)::integer)
  FROM due d WHERE m.mail_number = d.mail_number AND m.state = 'pending';

-- name: read_message
-- Of the mails of a message, the first $2, with what they are about, and the number of all.
SELECT m.contact_name, m.address, m.attempt_count, m.first_attempt_time, count(*) OVER () AS mail_count,
       n.notification_id, n.type, n.owner_id, n.event_time, n.position, n.target_id, n.actor_id, n.actor_owner_id,
       n.actor_type, n.details, n.subject, n.contacts
  FROM authsvc.mails m JOIN authsvc.notifications n USING (notification_id)
 WHERE m.message_id = $1 AND m.state = 'pending' ORDER BY m.mail_number LIMIT $2;

-- name: note_sent
UPDATE authsvc.mails SET state = 'sent', reply_code = $2, error = '' WHERE message_id = $1 AND state = 'pending';

-- name: note_failed
UPDATE authsvc.mails SET state = 'failed', reply_code = $2, error = $3 WHERE message_id = $1 AND state = 'pending';

-- name: note_retry
UPDATE authsvc.mails SET next_time = $4, reply_code = $2, error = $3 WHERE message_id = $1 AND state = 'pending';

-- name: release_messages
-- As they were before they were claimed; they stay parts of their messages.
UPDATE authsvc.mails SET next_time = $2, attempt_count = greatest(attempt_count - 1, 0)
 WHERE message_id = ANY($1) AND state = 'pending';

-- name: note_unreachable
-- A batch of those that wait for a server out of reach: the time of giving up is counted from now.
WITH waiting AS (
    SELECT mail_number FROM authsvc.mails
     WHERE state = 'pending' AND next_time <= $1 AND (first_attempt_time IS NULL OR first_attempt_time <= $2)
     ORDER BY next_time LIMIT $3 FOR UPDATE SKIP LOCKED)
UPDATE authsvc.mails m
   SET first_attempt_time = coalesce(m.first_attempt_time, $1), reply_code = $4, error = $5,
       state = CASE WHEN m.first_attempt_time <= $2 THEN 'failed' ELSE 'pending' END
  FROM waiting w WHERE m.mail_number = w.mail_number
RETURNING m.state;
