"""The container network interface (CNI): what a runtime's plugin is asked, answered; and the plugin's installation."""
