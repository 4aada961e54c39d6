document.body.append("a page");
