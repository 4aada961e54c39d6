export function ValetKeys() { return <h1>ValetKeys</h1>; }
