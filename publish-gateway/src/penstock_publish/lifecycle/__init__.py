"""What a topic goes through: draft, published, deprecated, retired; with a version and words for its readers."""
