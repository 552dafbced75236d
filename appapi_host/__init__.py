"""A local AppAPI: deploys ExApps, performs the handshake, serves the OCS API and the proxy."""
