"""Data service: applies derived streams and tables to the store and answers queries over rows."""
