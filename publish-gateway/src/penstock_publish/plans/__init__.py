"""Plans: how much an application may take, in one second and in one day, and what it has taken."""
