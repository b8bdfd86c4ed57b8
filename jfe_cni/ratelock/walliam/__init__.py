"""WallIAM: a password that only the cloud can check. What is kept is an IAM user's secret key, encrypted by the
password with a cipher under which every password opens to a secret key; which is the right one, only the cloud's log-in
tells."""
