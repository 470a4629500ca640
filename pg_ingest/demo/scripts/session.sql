-- One leaves; another goes on, or comes back.
\set gone random(1, :sessions)
\set here random(1, :sessions)
delete from sales.sessions where token = md5('session' || :gone)::uuid;
insert into sales.sessions values (md5('session' || :here)::uuid, '10.1.2.3')
    on conflict (token) do update set pages = sales.sessions.pages + 1, seen_at = now();
