"""What every HTTP edge shares: problem details, principals, the listener, health."""
