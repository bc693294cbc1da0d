INSERT INTO sessions (id, account, tag, created, expires, position) VALUES ('s1', '9900000', 'first', 1000, 32401000, 1);
INSERT INTO participants (id, account, callback_url, tag, permissions, device_api_version, session_id, subscriptions, created, version, last_event, position)
    VALUES ('p1', '9900000', 'https://app.example.com/', 'agent', '["AUDIO"]', 'V3', 's1',
            '{"session":"s1","participants":[{"participant":"p2","streamAliases":["cam"]}]}', 1000, 3, 2, 2);
INSERT INTO connections (id, account, participant_id, device, opened, position) VALUES ('c1', '9900000', 'p1', 'laptop', 1000, 3);
INSERT INTO dialogs (id, account, participant_id, inbound, state, called, caller, user_to_user, ring_timeout, max_duration, reason, details, sip_code, created, answered, ended, position)
    VALUES ('d1', '9900000', 'p1', 1, 'ANSWERED', '+15550100', 'UNKNOWN', 'x', 60000, 0, '', '', 0, 1000, 2000, 0, 4);
INSERT INTO events (id, account, participant_id, sequence, name, url, body, created, status)
    VALUES ('msg_1', '9900000', 'p1', 1, 'onConnect', 'https://app.example.com/', '{}', 1000, 'delivered'),
           ('msg_2', '9900000', 'p1', 2, 'onConnect', 'https://app.example.com/', '{"a":1}', 1000, 'waiting');
INSERT INTO settings (name, value) VALUES ('token key', 'AQID');
