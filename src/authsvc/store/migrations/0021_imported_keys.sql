-- Keys whose strings were made elsewhere. In authsvc.keys they have their look-up as key_prefix.

-- What each worker reads when it starts: the look-ups of all of them. A table of its own, because an index for it would be built
-- over all keys. Workers of an earlier release neither write it nor need it; a key that they delete is gone from it, too.
CREATE TABLE authsvc.imported_keys (
    key_id     text COLLATE "C" PRIMARY KEY REFERENCES authsvc.keys ON DELETE CASCADE,
    key_prefix text COLLATE "C" NOT NULL
);
