"""OAuth2: keys, clients, the embedded authorization server, the page's session."""
