-- Visitors look around; an old event is corrected, another one withdrawn.
insert into sales.events
select clock_timestamp(), gen_random_uuid(), 'view', '10.0.0.1', jsonb_build_object('page', '/p/' || n)
  from generate_series(1, 5) n;
update sales.events set client = '10.0.0.2'
 where (happened_at, id) = (select happened_at, id from sales.events_2025_03 limit 1 for update skip locked);
delete from sales.events
 where (happened_at, id) = (select happened_at, id from sales.events_2025_01 limit 1 for update skip locked);
