"""The developer portal at `/docs`: the catalogue, a page a topic and relation, applications, the reference."""
