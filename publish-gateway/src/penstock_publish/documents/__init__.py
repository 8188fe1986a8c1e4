"""What this process offers, for programs: OpenAPI 3.1 and AsyncAPI 3 made from the catalog, and samples of events."""
