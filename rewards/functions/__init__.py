"""Rewards in bounded time, and the user's own."""
