"""Access to files and servers: signed addresses, logins, HTTP sessions, relative references."""
