"""What every reply over plain HTTP goes through: pages of other origins, and compression."""
