"""Applications: clients that people register for what they build, each with a plan, scopes and usage of its own."""
