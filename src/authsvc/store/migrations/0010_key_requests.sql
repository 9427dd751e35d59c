-- The request ids of deleted keys, which stay taken for a while.

CREATE TABLE authsvc.deleted_key_requests (
    owner_id    text COLLATE "C" NOT NULL,
    request_id  text COLLATE "C" NOT NULL,
    key_id      text COLLATE "C" NOT NULL,                    -- the key that the request made
    delete_time timestamptz NOT NULL,                         -- of the key; the row goes 30 days later
    PRIMARY KEY (owner_id, request_id)
);

CREATE INDEX deleted_key_requests_by_time ON authsvc.deleted_key_requests (delete_time);
