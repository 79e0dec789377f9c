"""Reward workers and the reference policy."""
