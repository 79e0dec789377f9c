"""Ray itself: session, plan, placement, pools, object refs, shared folders."""
