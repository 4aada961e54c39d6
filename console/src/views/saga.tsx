export function OneSaga({ id }: { id: string }) { return <p>{id}</p>; }
