"""The web page: HTML that is whole without JavaScript, and a script that asks for it anew when there is news."""
