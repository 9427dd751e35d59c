-- name: due_to_be_told
WITH due AS MATERIALIZED (
    SELECT u.key_id FROM authsvc.key_uses u
     WHERE u.key_id = ANY((SELECT $1::text[])::text[]) AND (u.address_refused_time IS NULL OR u.address_refused_time <= $3)
     ORDER BY u.key_id
       FOR UPDATE)
UPDATE authsvc.key_uses u SET address_refused_time = $2
  FROM due WHERE u.key_id = due.key_id
RETURNING u.key_id;
