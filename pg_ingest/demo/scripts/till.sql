-- Two equal sales, and one that is struck out.
insert into sales.till_journal values (1, current_date, 9.50, 'cash'), (1, current_date, 9.50, 'cash');
delete from sales.till_journal
 where ctid = (select ctid from sales.till_journal limit 1 for update skip locked);
