-- name: record_key_uses
SELECT authsvc.record_key_uses($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: total_uses
SELECT coalesce(sum(uses), 0)::bigint FROM authsvc.key_usage WHERE key_id = $1 AND day BETWEEN $2 AND $3;

-- name: list_uses
-- Grouped by the columns that are named; the others are empty. Newest days first. With $8, what follows that row.
SELECT day, verifier_id, network, program, uses, last_use_time FROM (
    SELECT CASE WHEN $4 THEN day END AS day, CASE WHEN $5 THEN verifier_id ELSE '' END AS verifier_id,
           CASE WHEN $6 THEN network ELSE '' END AS network, CASE WHEN $7 THEN program ELSE '' END AS program,
           sum(uses)::bigint AS uses, max(last_use_time) AS last_use_time
      FROM authsvc.key_usage WHERE key_id = $1 AND day BETWEEN $2 AND $3
     GROUP BY 1, 2, 3, 4) AS grouped
 WHERE NOT $8 OR coalesce(day, '-infinity') < coalesce($9::date, '-infinity')
    OR coalesce(day, '-infinity') = coalesce($9::date, '-infinity') AND (verifier_id, network, program) > ($10, $11, $12)
 ORDER BY coalesce(day, '-infinity') DESC, verifier_id, network, program
 LIMIT $13;

-- name: list_users
-- Who used a key since a day and an instant, the latest first.
SELECT NULL::date AS day, verifier_id, network, program, sum(uses)::bigint AS uses, max(last_use_time) AS last_use_time
  FROM authsvc.key_usage WHERE key_id = $1 AND day >= $2
 GROUP BY verifier_id, network, program HAVING max(last_use_time) >= $3
 ORDER BY max(last_use_time) DESC, verifier_id, network, program
 LIMIT $4;

-- name: list_places
-- The verifiers and networks of the uses of a key since a day: what an etag of a preview stands for.
SELECT DISTINCT verifier_id, network FROM authsvc.key_usage WHERE key_id = $1 AND day >= $2 ORDER BY verifier_id, network;

-- name: count_keys_made
-- The keys that a key has made and that work at $3, of the owner $2, or of all if it is NULL; $4 at most.
SELECT count(*) FROM (
    SELECT FROM authsvc.keys k
     WHERE k.creator_id = $1 AND ($2::text IS NULL OR k.owner_id = $2) AND (k.expire_time IS NULL OR k.expire_time > $3)
       AND (k.revoke_time IS NULL OR k.revoke_time > greatest($3, k.update_time)) LIMIT $4) AS made;

-- name: count_sessions_made
SELECT count(*) FROM (
    SELECT FROM authsvc.session_records s
     WHERE s.creator_id = $1 AND ($2::text IS NULL OR s.owner_id = $2) AND s.revoke_time IS NULL AND s.latest_expire_time > $3
       AND s.last_activity_time + s.idle_timeout > $3 LIMIT $4) AS made;

-- name: list_networks_of_key
SELECT network, sum(uses)::bigint AS uses, max(last_use_time) AS last_use_time, 1::bigint AS keys
  FROM authsvc.key_usage WHERE key_id = $1 AND day >= $2 GROUP BY network ORDER BY max(last_use_time) DESC LIMIT $3;

-- name: list_networks_of_owner
SELECT network, sum(uses)::bigint AS uses, max(last_use_time) AS last_use_time, count(DISTINCT key_id) AS keys
  FROM authsvc.key_usage WHERE owner_id = $1 AND day >= $2 GROUP BY network ORDER BY max(last_use_time) DESC LIMIT $3;

-- name: delete_old_usage
WITH gone AS (
    DELETE FROM authsvc.key_usage
     WHERE ctid = ANY(ARRAY(SELECT ctid FROM authsvc.key_usage WHERE day < $1 ORDER BY day LIMIT $2))
    RETURNING true)
SELECT count(*) FROM gone;
