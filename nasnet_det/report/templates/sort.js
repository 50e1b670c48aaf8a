// A click, Enter or the space bar on a column's name sorts by it; what has no value stays last.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const header = button.closest("th"), table = button.closest("table");
    const order = header.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
    for (const other of table.querySelectorAll("th")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", order);
    const key = row => row.cells[header.cellIndex].dataset.value ??
      row.cells[header.cellIndex].textContent;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const isText = isNaN(x) || isNaN(y);
      const difference = isText ? x.localeCompare(y) : x - y;
      return order === "ascending" ? difference : -difference;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  });
}
