"""Publish gateway: OAuth2-protected topics over WebSocket, SSE and history pages, and the page for people."""
