"""A bounded model of the revocation protocol, explored exhaustively."""
