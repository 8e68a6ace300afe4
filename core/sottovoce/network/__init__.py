"""Speaking to a hub, whoever answers there: how long it is waited for, and what of its words is shown."""
