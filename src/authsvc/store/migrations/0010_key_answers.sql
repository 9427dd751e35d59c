-- What is known of the answers that had new key strings, and the request ids of deleted keys, which stay taken for a while.

-- NULL: it was sent, or nothing was noted. Here rather than with the key, since it is written twice.
ALTER TABLE authsvc.key_uses ADD COLUMN answer text;
-- New rows are checked. All others have NULL, so the table need not be read while it is locked.
ALTER TABLE authsvc.key_uses ADD CONSTRAINT key_uses_answer CHECK (answer IN ('pending', 'lost')) NOT VALID;

-- As key_rows, and with it. That one stays for the release before: to change it would fail statements that its running
-- workers have prepared.
CREATE VIEW authsvc.key_records AS
    SELECT k.key_id, k.owner_id, k.key_prefix, k.display_name, k.folded_name, k.description, k.scopes,
           k.technical_contacts, k.annotations, k.create_time, k.creator_id, k.update_time, k.expire_time, k.revoke_time,
           k.revoker_id, k.revoke_reason, k.rotated_from_key_id, k.rotated_to_key_id, k.version,
           u.last_use_time, u.last_use_ip,
           u.key_id AS use_key_id,                            -- for orders that the index of key_uses serves
           u.answer
      FROM authsvc.keys k JOIN authsvc.key_uses u USING (key_id, owner_id);

CREATE TABLE authsvc.deleted_key_requests (
    owner_id    text COLLATE "C" NOT NULL,
    request_id  text COLLATE "C" NOT NULL,
    key_id      text COLLATE "C" NOT NULL,                    -- the key that the request made
    delete_time timestamptz NOT NULL,                         -- of the key; the row goes 30 days later
    PRIMARY KEY (owner_id, request_id)
);

CREATE INDEX deleted_key_requests_by_time ON authsvc.deleted_key_requests (delete_time);
