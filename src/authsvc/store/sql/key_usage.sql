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

-- name: insert_grace_end
INSERT INTO authsvc.grace_ends (key_id, rotate_time, when_unused_for) VALUES ($1, $2, $3);

-- name: find_grace_end
SELECT key_id, rotate_time, when_unused_for FROM authsvc.grace_ends WHERE key_id = $1;

-- name: list_grace_ends
-- A batch of the old keys whose grace period may end by itself, with whether it is over, and whether the old key has been unused
-- long enough at $3, which leaves uses the time to be written.
SELECT g.key_id,
       (k.revoke_time > greatest($2, k.update_time) AND k.revoke_reason = 'rotated') IS NOT TRUE AS is_over,
       greatest(u.last_use_time, g.rotate_time) + g.when_unused_for <= $3 AND s.last_use_time IS NOT NULL AS is_due
  FROM (SELECT key_id, rotate_time, when_unused_for FROM authsvc.grace_ends WHERE key_id > $1 ORDER BY key_id LIMIT $4) AS g
  JOIN authsvc.keys k ON k.key_id = g.key_id
  JOIN authsvc.key_uses u ON u.key_id = g.key_id
  LEFT JOIN authsvc.key_uses s ON s.key_id = k.rotated_to_key_id
 ORDER BY g.key_id;

-- name: delete_grace_ends
DELETE FROM authsvc.grace_ends WHERE key_id = ANY($1::text[]);
