"""Endpoints of others behind the gateway: REST and WebSocket, with its tokens, plans and metrics."""
