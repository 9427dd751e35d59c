-- Changes in fewer messages. The end of the feed is locked in the message that commits, and so for no round trip of a client.

-- Refuses to go on when the authority of a caller has ended while this message waited for locks. `seconds_left` is how much was
-- left of it when the message was sent; NULL: it has no end. R9 in docs/revocation.md.
CREATE FUNCTION authsvc.refuse_if_over(seconds_left double precision) RETURNS void
    LANGUAGE plpgsql
    AS $$
    BEGIN
        IF clock_timestamp() >= statement_timestamp() + make_interval(secs => seconds_left) THEN
            RAISE EXCEPTION 'the authority of the caller has ended' USING ERRCODE = 'AS001';
        END IF;
    END $$;

-- R6. Moves the end of the feed and appends an entry. Must be followed by COMMIT in the same message, because all other changes
-- wait for the lock of the head. The client chooses the nonce, by which it finds the place of the entry after the commit.
CREATE FUNCTION authsvc.publish(
    nonce uuid, key_prefixes text[], owner_id text, kind text, about_tag_keys boolean, seconds_left double precision)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        place bigint;
    BEGIN
        PERFORM set_config('synchronous_commit', 'on', true);
        UPDATE authsvc.feed_head h SET seq = h.seq + 1, nonce = publish.nonce RETURNING h.seq INTO place;
        INSERT INTO authsvc.feed (seq, nonce, key_prefixes, owner_id, kind, about_tag_keys)
        VALUES (place, publish.nonce, publish.key_prefixes, publish.owner_id, publish.kind, publish.about_tag_keys);
        PERFORM authsvc.refuse_if_over(seconds_left);
    END $$;
