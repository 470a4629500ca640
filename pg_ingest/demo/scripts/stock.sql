-- Two equal moves, one that is corrected, and one of several equal ones that is struck out.
insert into sales.stock_moves values (1, current_date, 3, 'counted'), (1, current_date, 3, 'counted');
update sales.stock_moves set pieces = pieces + 1
 where ctid = (select ctid from sales.stock_moves where shelf = 2 limit 1 for update skip locked);
delete from sales.stock_moves
 where ctid = (select ctid from sales.stock_moves limit 1 for update skip locked);
