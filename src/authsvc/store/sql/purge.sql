-- name: take_job
-- No row if the job is not due, or another worker runs it.
SELECT position FROM authsvc.jobs WHERE job = $1 AND next_time <= $2 FOR UPDATE SKIP LOCKED;

-- name: put_back_job
UPDATE authsvc.jobs SET position = $2, next_time = $3 WHERE job = $1;

-- name: delete_ended_sessions
-- One batch of a walk in the order of ids. A session ends by revocation, by age or by inactivity.
WITH batch AS (
    SELECT session_id, least(revoke_time, latest_expire_time, last_activity_time + idle_timeout) AS end_time
      FROM authsvc.session_records WHERE session_id > $1 ORDER BY session_id LIMIT $3),
gone AS (
    DELETE FROM authsvc.sessions s USING batch b
     WHERE s.session_id = b.session_id AND b.end_time < $2
    RETURNING s.owner_id)
SELECT max(session_id) AS position, count(*) AS looked_at, (SELECT count(*) FROM gone) AS deleted,
       (SELECT array_agg(DISTINCT owner_id) FROM gone) AS owners
  FROM batch;

-- name: delete_key_requests
-- A batch of the request ids of keys that were deleted before $1.
WITH gone AS (
    DELETE FROM authsvc.deleted_key_requests r
     USING (SELECT owner_id, request_id FROM authsvc.deleted_key_requests
             WHERE delete_time < $1 ORDER BY delete_time LIMIT $2) AS old
     WHERE r.owner_id = old.owner_id AND r.request_id = old.request_id AND r.delete_time < $1
    RETURNING true)
SELECT count(*) FROM gone;

-- name: delete_session_ends
-- If none of the ended sessions is left. The last row of an owner stays, because it determines the epoch of new sessions.
DELETE FROM authsvc.session_ends e
 WHERE e.owner_id = ANY($1) AND e.revoke_time < $2
   AND NOT EXISTS (SELECT FROM authsvc.sessions s WHERE s.owner_id = e.owner_id AND s.epoch < e.epoch)
   AND EXISTS (SELECT FROM authsvc.session_ends later WHERE later.owner_id = e.owner_id AND later.epoch > e.epoch);
