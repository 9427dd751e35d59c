-- name: record
-- Locks the heads of chains, so call it after the locks of owners and keys, and before the head of the feed is locked.
SELECT authsvc.record_audit($1);

-- name: list_events
-- The events of an owner from $2 on, the newest first, before ($3, $4).
SELECT position, event_id, event_time, action, actor_id, actor_owner_id, actor_type, owner_id, target_id, client_ip, request_id,
       details, previous_hash, hash
  FROM authsvc.audit_events
 WHERE owner_id = $1 AND event_time >= coalesce($2, '-infinity'::timestamptz)
   AND event_time <= coalesce($3, 'infinity'::timestamptz)
   AND (event_time, position) < (coalesce($3, 'infinity'::timestamptz), $4::bigint)
 ORDER BY event_time DESC, position DESC
 LIMIT $5;

-- name: list_events_of_target
-- The events of one target, of which there are few; $7 and $8 are further filters.
SELECT position, event_id, event_time, action, actor_id, actor_owner_id, actor_type, owner_id, target_id, client_ip, request_id,
       details, previous_hash, hash
  FROM authsvc.audit_events
 WHERE owner_id = $1 AND event_time >= coalesce($2, '-infinity'::timestamptz)
   AND event_time <= coalesce($3, 'infinity'::timestamptz)
   AND (event_time, position) < (coalesce($3, 'infinity'::timestamptz), $4::bigint)
   AND target_id = $6 AND ($7 = '' OR actor_id = $7) AND (cardinality($8::text[]) = 0 OR action = ANY($8))
 ORDER BY event_time DESC, position DESC
 LIMIT $5;

-- name: list_events_of_actions
-- A page of each action, by the index, and the newest of those. Fast for rare and for frequent actions.
SELECT e.position, e.event_id, e.event_time, e.action, e.actor_id, e.actor_owner_id, e.actor_type, e.owner_id, e.target_id,
       e.client_ip, e.request_id, e.details, e.previous_hash, e.hash
  FROM unnest($6::text[]) AS wanted (action) CROSS JOIN LATERAL (
    SELECT position, event_id, event_time, action, actor_id, actor_owner_id, actor_type, owner_id, target_id, client_ip, request_id,
           details, previous_hash, hash
      FROM authsvc.audit_events
     WHERE owner_id = $1 AND event_time >= coalesce($2, '-infinity'::timestamptz)
       AND event_time <= coalesce($3, 'infinity'::timestamptz)
       AND (event_time, position) < (coalesce($3, 'infinity'::timestamptz), $4::bigint)
       AND action = wanted.action
     ORDER BY event_time DESC, position DESC
     LIMIT $5) AS e
 ORDER BY e.event_time DESC, e.position DESC
 LIMIT $5;

-- name: list_events_of_actor
-- The same for one actor.
SELECT e.position, e.event_id, e.event_time, e.action, e.actor_id, e.actor_owner_id, e.actor_type, e.owner_id, e.target_id,
       e.client_ip, e.request_id, e.details, e.previous_hash, e.hash
  FROM unnest($6::text[]) AS wanted (action) CROSS JOIN LATERAL (
    SELECT position, event_id, event_time, action, actor_id, actor_owner_id, actor_type, owner_id, target_id, client_ip, request_id,
           details, previous_hash, hash
      FROM authsvc.audit_events
     WHERE owner_id = $1 AND event_time >= coalesce($2, '-infinity'::timestamptz)
       AND event_time <= coalesce($3, 'infinity'::timestamptz)
       AND (event_time, position) < (coalesce($3, 'infinity'::timestamptz), $4::bigint)
       AND actor_id = $7 AND action = wanted.action
     ORDER BY event_time DESC, position DESC
     LIMIT $5) AS e
 ORDER BY e.event_time DESC, e.position DESC
 LIMIT $5;

-- name: find_ends
-- The chains of the owners after $1: the end of each, the end of what was dropped of it, and before which month events were
-- dropped, which is the same for all chains.
SELECT h.owner_id, h.position, h.hash, d.position AS dropped_position, d.hash AS dropped_hash,
       (SELECT e.details ->> 'before' FROM authsvc.audit_events e WHERE e.owner_id = 'authsvc' AND e.action = 'EVENTS_DROPPED'
         ORDER BY e.event_time DESC, e.position DESC LIMIT 1) AS dropped_before
  FROM authsvc.audit_heads h LEFT JOIN authsvc.audit_drops d USING (owner_id)
 WHERE h.owner_id > $1 AND ($2 = '' OR h.owner_id = $2)
 ORDER BY h.owner_id
 LIMIT $3;

-- name: walk_events
-- Events after ($1, $2, $3), ordered by owner and time, up to owner $4 unless it is ''. A time out of the range of Python is
-- NULL; `reached` is $2 of the next page.
SELECT owner_id, CASE WHEN event_time >= '0001-01-01 UTC' AND event_time < '10000-01-01 UTC' THEN event_time END AS event_time,
       event_time::text AS reached, position, event_id, action, actor_id, actor_owner_id, actor_type, target_id, client_ip,
       request_id, details, previous_hash, hash
  FROM authsvc.audit_events
 WHERE (owner_id, event_time, position) > ($1, $2::text::timestamptz, $3::bigint)
   AND owner_id >= $1 AND ($4 = '' OR owner_id <= $4)
 ORDER BY owner_id, audit_events.event_time, position
 LIMIT $5;

-- name: is_beyond_head
-- Whether an owner has an event beyond the head of its chain, in one snapshot.
SELECT EXISTS (SELECT FROM authsvc.audit_events e WHERE e.owner_id = $1
                  AND e.position > coalesce((SELECT h.position FROM authsvc.audit_heads h WHERE h.owner_id = $1), 0));

-- name: make_month
SELECT authsvc.make_audit_month($1);

-- name: drop_before
SELECT authsvc.drop_audit_before($1);

-- name: has_before
SELECT EXISTS (SELECT FROM authsvc.audit_events WHERE event_time < $1);

-- name: find_last_drop
-- The last EVENTS_DROPPED event, with the columns of walk_events.
SELECT owner_id, CASE WHEN event_time >= '0001-01-01 UTC' AND event_time < '10000-01-01 UTC' THEN event_time END AS event_time,
       event_time::text AS reached, position, event_id, action, actor_id, actor_owner_id, actor_type, target_id, client_ip,
       request_id, details, previous_hash, hash
  FROM authsvc.audit_events
 WHERE owner_id = 'authsvc' AND action = 'EVENTS_DROPPED'
 ORDER BY audit_events.event_time DESC, position DESC
 LIMIT 1;

-- name: list_drops
SELECT owner_id, position, hash FROM authsvc.audit_drops WHERE owner_id > $1 ORDER BY owner_id LIMIT $2;

-- name: retention
SELECT retention FROM authsvc.audit_retention;
