"""Write Nextcloud external apps (ExApps)."""
