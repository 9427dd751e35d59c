"""What both transports, that of grpcio and the lane, allow to clients, and how long they wait."""

# Of a message. A batch of 100 key strings is some 20 KiB, or 480 KiB with all the scopes that it can name.
MAX_MESSAGE_BYTES = 1024 * 1024
# Of the headers of one call, counted as in RFC 9113, 6.5.2. A credential has less than 200 bytes.
MAX_HEADER_BYTES = 16 * 1024
# Bytes of a message that are taken before it is read.
WINDOW_BYTES = 16 * 1024
# Calls on one connection. The clients of one process share a connection. gRPC counts a call until its handler
# has ended, which the client does not know: with a lower limit, a client within it is refused now and then.
MAX_STREAMS = 512
# A client that connects and then sends nothing is disconnected after so many seconds.
HANDSHAKE_SECONDS = 10.0
# Seconds that clients leave between two pings, or else are disconnected at the third one. They may ping every
# ten seconds, so that proxies do not drop an idle connection, and pings may arrive closer together than they
# were sent.
PING_SECONDS = 5.0
# Seconds that the calls of a connection that has reached its age get, in addition to the longest RPC.
AGED_GRACE_SECONDS = 60.0
# Seconds in which an answer is handed to the system, and far more.
ANSWERED_SECONDS = 0.1
