-- name: find_accepted
SELECT tag_keys FROM authsvc.accepted_tag_keys;

-- name: lock_tag_keys
-- Serializes changes. Needs the privilege to change tag keys, which the serving role does not have.
LOCK TABLE authsvc.tag_keys IN SHARE ROW EXCLUSIVE MODE;

-- name: list_tag_keys
SELECT t.tag_key_id, t.create_time, t.mint_time, t.rest_time, t.retire_time,
       CASE WHEN t.retire_time IS NOT NULL THEN 'retired'
            WHEN t.tag_key = a.tag_keys[1] THEN 'minting'
            WHEN t.mint_time IS NULL THEN 'new'
            ELSE 'accepted' END AS state
  FROM authsvc.tag_keys t, authsvc.accepted_tag_keys a
 ORDER BY t.tag_key_id;

-- name: add_tag_key
-- It does not mint yet, because not every worker accepts it.
INSERT INTO authsvc.tag_keys (tag_key_id, tag_key, mint_time)
SELECT max(tag_key_id) + 1, $1, NULL FROM authsvc.tag_keys
RETURNING tag_key_id;

-- name: start_minting
-- The tag key with the latest mint_time mints, so it is later than all others, whatever the clock shows.
UPDATE authsvc.tag_keys
   SET mint_time = greatest(clock_timestamp(), (SELECT max(mint_time) FROM authsvc.tag_keys) + interval '1 microsecond')
 WHERE tag_key_id = $1 AND mint_time IS NULL AND retire_time IS NULL;

-- name: rest
-- All workers mint with $1, so none mints with an earlier one.
UPDATE authsvc.tag_keys SET rest_time = clock_timestamp()
 WHERE rest_time IS NULL AND mint_time < (SELECT mint_time FROM authsvc.tag_keys WHERE tag_key_id = $1);

-- name: retire
UPDATE authsvc.tag_keys SET retire_time = clock_timestamp() WHERE tag_key_id = $1;

-- name: count_alive
-- How many active keys and sessions were minted with each tag key. The time of creation tells which one it was. What was created
-- while workers changed from one tag key to the next counts for both.
SELECT t.tag_key_id,
       (SELECT count(*) FROM authsvc.keys k
         WHERE k.create_time >= t.mint_time AND k.create_time < coalesce(t.rest_time, 'infinity')
           AND (k.revoke_time IS NULL OR k.revoke_time > greatest(n.now, k.update_time))
           AND (k.expire_time IS NULL OR k.expire_time > n.now)) AS keys,
       (SELECT count(*) FROM authsvc.session_records s
         WHERE s.create_time >= t.mint_time AND s.create_time < coalesce(t.rest_time, 'infinity')
           AND s.revoke_time IS NULL AND s.latest_expire_time > n.now
           AND s.last_activity_time + s.idle_timeout > n.now) AS sessions
  FROM authsvc.tag_keys t, (SELECT clock_timestamp() AS now) n;

-- name: now
SELECT clock_timestamp();
