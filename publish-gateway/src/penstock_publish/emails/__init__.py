"""E-mail alerts: events of topics as mails over SMTP, gathered so that they stay few, with what failed kept."""
