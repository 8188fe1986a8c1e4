"""WebSockets into streams: one message a batch, one reply a message."""
