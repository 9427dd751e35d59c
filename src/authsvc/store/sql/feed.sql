-- name: register
-- R1. In a transaction of its own, before the end of the feed is read, which is the place to start from.
INSERT INTO authsvc.workers (worker_id, lease_ms, host, pid, beat)
SELECT $1, $2, $3, $4, $5 WHERE set_config('synchronous_commit', 'on', true) IS NOT NULL;

-- name: leave
-- R8. For workers that have stopped answering, or are known to be dead.
DELETE FROM authsvc.workers WHERE worker_id = ANY($1);

-- name: remove_foreign
-- Registrations that came with a backup or a copy of another database, whose workers cannot have a lease any more. They renew
-- elsewhere or not at all, so nobody here can watch their beats. This is the one decision by wall clocks: a minute is their slack.
DELETE FROM authsvc.workers
 WHERE database_id <> authsvc.database_id()
   AND coalesce(beat_time, register_time) + make_interval(secs => lease_ms * 1.2 / 1000) + interval '1 minute'
       < clock_timestamp();

-- name: find_head
-- With the tag keys, in the same snapshot.
SELECT h.seq, h.nonce, t.tag_keys FROM authsvc.feed_head h, authsvc.accepted_tag_keys t;

-- name: renew
-- R2. In one snapshot, checks that the registration exists and that the worker's place is in this feed, and reads the entries
-- after it. No row if one check fails. Only a commit that waits for the standby proves that this node is the primary.
WITH me AS (
    UPDATE authsvc.workers
       SET beat = $4, applied = greatest(applied, $6), beat_time = clock_timestamp(),
           worker_pids = $7, unconfirmed_pids = $8
     WHERE worker_id = $1 AND beat = ANY($5) AND database_id IS NOT DISTINCT FROM authsvc.database_id()
       AND EXISTS (SELECT FROM authsvc.feed WHERE seq = $2 AND nonce = $3)
       AND set_config('synchronous_commit', 'on', true) IS NOT NULL
    RETURNING clock_timestamp() AS now)
SELECT me.now, f.seq, f.nonce, f.key_prefixes, f.owner_id, f.kind,
       CASE WHEN f.about_tag_keys THEN (SELECT tag_keys FROM authsvc.accepted_tag_keys) END AS tag_keys
  FROM me LEFT JOIN authsvc.feed f ON f.seq > $2
 ORDER BY f.seq;

-- name: read_feed
-- R3. The entries after a place; no row if the place is not in this feed.
SELECT f.seq, f.nonce, f.key_prefixes, f.owner_id, f.kind,
       CASE WHEN f.about_tag_keys THEN (SELECT tag_keys FROM authsvc.accepted_tag_keys) END AS tag_keys
  FROM authsvc.feed here LEFT JOIN authsvc.feed f ON f.seq > here.seq
 WHERE here.seq = $1 AND here.nonce = $2
 ORDER BY f.seq;

-- name: acknowledge
-- R3. Does not extend a lease, so it need not wait for the standby. With $4 and $5, that place must be in this feed, too.
UPDATE authsvc.workers SET applied = greatest(applied, $2)
 WHERE worker_id = $1
   AND EXISTS (SELECT FROM authsvc.feed WHERE seq = $2 AND nonce = $3)
   AND ($4::bigint IS NULL OR EXISTS (SELECT FROM authsvc.feed WHERE seq = $4 AND nonce = $5))
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL
RETURNING true;

-- name: notify
-- A hint, which may be lost. In a transaction of its own, because it takes a lock of the whole cluster.
SELECT pg_notify('authsvc_feed', $1);

-- name: announce
-- R6. Finds entries by their nonces $1, near the end of the feed, and sends hints: with the prefixes in $2, or without an entry
-- where they are NULL. In a transaction of its own, because NOTIFY takes a lock of the whole cluster when it commits. That
-- commit need not wait for the disk or the standby: a hint may be lost. With the number of clients that hold credentials, by
-- reports that are believed, and of workers, because it costs no further message here.
SELECT a.nonce, f.seq, pg_notify('authsvc_feed', coalesce(f.seq || ' ' || a.nonce || ' ' || a.prefixes, '')),
       (SELECT coalesce(sum(r.client_count), 0) FROM authsvc.client_reports r
         WHERE r.report_time > clock_timestamp() - interval '10 seconds')::integer AS holders,
       (SELECT count(*) FROM authsvc.workers)::integer AS workers
  FROM unnest($1::uuid[], $2::text[]) AS a (nonce, prefixes) CROSS JOIN LATERAL authsvc.find_place(a.nonce) AS f (seq)
 WHERE f.seq IS NOT NULL AND set_config('synchronous_commit', 'off', true) IS NOT NULL;

-- name: find_place
-- The same without a hint.
SELECT authsvc.find_place($1);

-- name: find_behind
-- R6. The workers that may still act on the state before each of these entries. No row at all for an entry that this node does
-- not have; then it may not know all workers either.
SELECT f.seq, f.nonce, w.worker_id, w.lease_ms
  FROM authsvc.feed f LEFT JOIN authsvc.workers w ON w.applied < f.seq
 WHERE f.seq = ANY($1) AND f.nonce = ANY($2);

-- name: find_workers
-- With the time since when each has had an entry to apply.
SELECT w.worker_id, w.host, w.pid, w.worker_pids, w.unconfirmed_pids, w.lease_ms, w.beat, w.applied,
       w.register_time, w.beat_time,
       h.seq AS head_seq, clock_timestamp() AS now,
       (SELECT greatest(f.publish_time, w.register_time) FROM authsvc.feed f WHERE f.seq > w.applied
         ORDER BY f.seq LIMIT 1) AS behind_since
  FROM authsvc.feed_head h LEFT JOIN authsvc.workers w ON true
 ORDER BY w.host, w.register_time, w.worker_id;

-- name: reap
-- R8. A worker that has renewed since its beat was read is alive.
DELETE FROM authsvc.workers WHERE worker_id = $1 AND beat = $2 RETURNING true;

-- name: trim
-- Entries that all workers have applied are kept for an hour. The newest entry always stays, because it is the place of workers.
DELETE FROM authsvc.feed
 WHERE seq IN (SELECT seq FROM authsvc.feed
                WHERE seq < (SELECT seq FROM authsvc.feed_head)
                  AND seq < coalesce((SELECT min(applied) FROM authsvc.workers), 0)
                  AND publish_time < clock_timestamp() - interval '1 hour'
                ORDER BY seq LIMIT 10000);
