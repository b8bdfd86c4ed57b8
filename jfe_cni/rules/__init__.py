"""Rules, pure: an intent goes in, nft text comes out, the same for the same intent. Nothing here touches the kernel."""
