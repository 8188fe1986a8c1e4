"""Durable subscriptions: positions that subscribers have acknowledged, kept over restarts of either side."""
