"""Every kind of credential, through the real service behind each real gateway."""
