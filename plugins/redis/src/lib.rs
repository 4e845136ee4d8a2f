//! Redis, RESP2 and RESP3, for tcpcopy.
