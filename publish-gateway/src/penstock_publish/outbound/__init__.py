"""What the gateway sends by itself: standing subscriptions with a cursor, shared among replicas."""
